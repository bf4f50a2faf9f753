-- Changes the store's own id and its format, if the mark is that of the expected move.
-- KEYS: the store's id   ARGV: id, expected move ('' = there is no mark), move, format ('' = no mark from now on)
if ARGV[2] == '' then
  if redis.call('EXISTS', KEYS[1]) == 1 then
    return 0
  end
elseif redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] or redis.call('HGET', KEYS[1], 'move') ~= ARGV[2] then
  return 0
end
if ARGV[4] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('HSET', KEYS[1], 'id', ARGV[1], 'format', ARGV[4], 'move', ARGV[3])
end
return 1
