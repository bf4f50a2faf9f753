-- The functions that the scripts of the outbox share. They stand in front of each of them.
local function now_in_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Adds an entry to a list by time, and removes what is older than `kept`. The list goes when nothing is
-- added for so long.
local function log(list, entry, now, kept)
  -- One entry in a millisecond, so that a position in the list is unique.
  local last = redis.call('ZRANGE', list, 0, 0, 'REV', 'WITHSCORES')
  redis.call('ZADD', list, math.max(now, (tonumber(last[2]) or 0) + 1), entry)
  redis.call('ZREMRANGEBYSCORE', list, '-inf', now - kept)
  redis.call('PEXPIRE', list, kept)
end

-- Appends a message to queues. KEYS from `first` on: for each endpoint its queue, due set and count.
local function enqueue(first, subject, message, now)
  for i = first, #KEYS, 3 do
    redis.call('RPUSH', KEYS[i], message)
    redis.call('ZADD', KEYS[i + 1], 'NX', now, subject)
    redis.call('HINCRBY', KEYS[i + 2], 'n', 1)
  end
end

