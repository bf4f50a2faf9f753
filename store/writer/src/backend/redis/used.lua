-- Records the days of the last uses of keys. A day that is not later than the recorded one is not written.
-- KEYS: the hash   ARGV: key, day, …
for at = 1, #ARGV, 2 do
  if (redis.call('HGET', KEYS[1], ARGV[at]) or '') < ARGV[at + 1] then
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  end
end
return 1
