-- Schedules what is due later than some time from now to now. Queues that are due earlier may be claimed.
-- KEYS: due   ARGV: that time in ms
local now = now_in_ms()
local late = redis.call('ZRANGE', KEYS[1], '(' .. (now + ARGV[1]), '+inf', 'BYSCORE')
for _, subject in ipairs(late) do
  redis.call('ZADD', KEYS[1], now, subject)
end
return #late
