-- Takes what is due and puts it off in the same step: an entry never leaves the schedule, so the
-- work of a broker that dies comes back.
-- KEYS: due   ARGV: limit, due by when in ms, claim in ms, due from when in ms ('-inf' = any)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ids = redis.call('ZRANGE', KEYS[1], ARGV[4], ARGV[2], 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], now + ARGV[3], id)
end
return ids
