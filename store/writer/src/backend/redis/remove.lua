-- Removes a record and its schedule, if nobody wrote since it was read. All keys carry one hash tag.
-- KEYS: access, refresh, both schedules, expiry, the families it may be in...
-- ARGV: id, expected revision, channel, message ('' = none)
if (redis.call('HGET', KEYS[2], 'rev') or '') ~= ARGV[2] then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[2])
for i = 3, 5 do
  redis.call('ZREM', KEYS[i], ARGV[1])
end
for i = 6, #KEYS do
  redis.call('HDEL', KEYS[i], ARGV[1])
end
if ARGV[4] ~= '' then
  redis.call('PUBLISH', ARGV[3], ARGV[4])
end
return 1
