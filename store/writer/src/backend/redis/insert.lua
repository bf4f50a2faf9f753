-- Writes a hash, unless there is one.
-- KEYS: the hash   ARGV: field, value, …
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
