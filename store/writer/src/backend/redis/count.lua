-- Adds to the counts of a bucket, and keeps it for a while.
-- KEYS: the hash   ARGV: milliseconds, name, number, …
for at = 2, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[1], ARGV[at], ARGV[at + 1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
