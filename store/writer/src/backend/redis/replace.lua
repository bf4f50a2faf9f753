-- Puts a string in the place of the one that is expected there. The empty string is no string.
-- KEYS: the string   ARGV: expected, next, time to live in ms
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
