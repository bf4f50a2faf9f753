-- Stores a message about a subject for some endpoints. All keys carry one hash tag.
-- KEYS: events, then for each endpoint its queue and its due set
-- ARGV: subject, message, whether it is an event ('1'), how long events are kept in ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[3] == '1' then
  -- One event in a millisecond, so that a position in the list is unique.
  local last = redis.call('ZRANGE', KEYS[1], 0, 0, 'REV', 'WITHSCORES')
  local at = math.max(now, (tonumber(last[2]) or 0) + 1)
  redis.call('ZADD', KEYS[1], at, ARGV[2])
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[4])
end
for i = 2, #KEYS, 2 do
  redis.call('RPUSH', KEYS[i], ARGV[2])
  redis.call('ZADD', KEYS[i + 1], 'NX', now, ARGV[1])
end
return 1
