-- Gives a name to another installation, or to none.
-- KEYS: the name   ARGV: field ('' = the key is a string), expected id, next id ('' = none), channel, message
local field, expected, next = ARGV[1], ARGV[2], ARGV[3]
if field == '' then
  if redis.call('GET', KEYS[1]) ~= expected then
    return 0
  elseif next == '' then
    redis.call('DEL', KEYS[1])
  else
    redis.call('SET', KEYS[1], next)
  end
else
  if redis.call('HGET', KEYS[1], field) ~= expected then
    return 0
  elseif next == '' then
    redis.call('HDEL', KEYS[1], field)
  else
    redis.call('HSET', KEYS[1], field, next)
  end
end
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1
