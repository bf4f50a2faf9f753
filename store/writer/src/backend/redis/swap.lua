-- Writes both halves of an installation, its schedule and its announcement, if nobody wrote since
-- it was read. All keys carry one hash tag.
-- KEYS: access, refresh, the schedule it is on, expiry, the schedule it is not on,
--       the families it belongs to..., then, if there is an event, the list of events, and for
--       each endpoint its queue, due set and count
-- ARGV: id, expected revision ('' = no record), wake ('' = never, 'keep' = schedule
--       and expiry stay), expiry, channel, message ('' = none), count of families,
--       event ('' = none), how long events are kept in ms,
--       count of access values, access..., count of refresh values, refresh..., removed...
local function set(key, first, count)
  if count > 0 then
    redis.call('HSET', key, unpack(ARGV, first, first + count - 1))
  end
  return first + count
end
if (redis.call('HGET', KEYS[2], 'rev') or '') ~= ARGV[2] then
  return 0
end
local id, wake, expiry = ARGV[1], ARGV[3], ARGV[4]
local next = set(KEYS[1], 11, tonumber(ARGV[10]))
next = set(KEYS[2], next + 1, tonumber(ARGV[next]))
if next <= #ARGV then
  redis.call('HDEL', KEYS[2], unpack(ARGV, next))
end
if wake ~= 'keep' then
  redis.call('ZREM', KEYS[5], id)
  if wake == '' then
    redis.call('ZREM', KEYS[3], id)
  else
    redis.call('ZADD', KEYS[3], wake, id)
  end
  redis.call('ZADD', KEYS[4], expiry, id)
end
local families, event = 5 + ARGV[7], ARGV[8]
for i = 6, families do
  redis.call('HSET', KEYS[i], id, '')
end
if event ~= '' then
  local now = now_in_ms()
  log(KEYS[families + 1], event, now, ARGV[9])
  enqueue(families + 2, id, event, now)
end
if ARGV[6] ~= '' then
  redis.call('PUBLISH', ARGV[5], ARGV[6])
end
return 1
