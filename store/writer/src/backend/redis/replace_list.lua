-- Puts a list of sealing keys in the place of the one with the expected revision. The empty string is
-- no list.
-- KEYS: the hash   ARGV: expected revision, field, value, …
if (redis.call('HGET', KEYS[1], ':rev') or '') ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 1
