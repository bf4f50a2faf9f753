-- Records the end of an attempt to deliver the first message of a queue, and schedules the queue.
-- A repetition removes nothing more: every message is unique.
-- KEYS: queue, due, attempts, dead letters, count
-- ARGV: subject, message to remove ('' = none), attempts ('' = none yet, 'keep' = as they are),
--       pause in ms, dead letter ('' = none), how long dead letters are kept in ms
local now = now_in_ms()
local subject = ARGV[1]
if ARGV[2] ~= '' then
  local removed = redis.call('LREM', KEYS[1], 1, ARGV[2])
  if removed > 0 and redis.call('HINCRBY', KEYS[5], 'n', -removed) <= 0 then
    redis.call('DEL', KEYS[5])
  end
end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[3], subject)
elseif ARGV[3] ~= 'keep' then
  redis.call('HSET', KEYS[3], subject, ARGV[3])
end
if ARGV[5] ~= '' then
  log(KEYS[4], ARGV[5], now, ARGV[6])
end
if redis.call('LLEN', KEYS[1]) == 0 then
  redis.call('ZREM', KEYS[2], subject)
  redis.call('HDEL', KEYS[3], subject)
else
  redis.call('ZADD', KEYS[2], now + ARGV[4], subject)
end
return 1
