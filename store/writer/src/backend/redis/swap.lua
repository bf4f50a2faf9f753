-- Writes both halves of an installation, its schedule and its announcement, if nobody wrote since
-- it was read. All keys carry one hash tag.
-- KEYS: access, refresh, the schedule it is on, expiry, the schedule it is not on,
--       the family it belongs to (optional)
-- ARGV: id, expected revision ('' = no record), wake ('' = never, 'keep' = schedule
--       and expiry stay), expiry, channel, message ('' = none),
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
local next = set(KEYS[1], 8, tonumber(ARGV[7]))
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
if KEYS[6] then
  redis.call('HSET', KEYS[6], id, '')
end
if ARGV[6] ~= '' then
  redis.call('PUBLISH', ARGV[5], ARGV[6])
end
return 1
