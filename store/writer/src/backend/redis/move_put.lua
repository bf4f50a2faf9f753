-- Writes both halves of an installation, unless another revision is there.
-- KEYS: access, refresh   ARGV: revision, count of access values, access..., count of refresh values, refresh...
local held = redis.call('HGET', KEYS[2], 'rev')
if held and held ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[2])
local first = 2
for i = 1, 2 do
  local count = tonumber(ARGV[first])
  if count > 0 then
    redis.call('HSET', KEYS[i], unpack(ARGV, first + 1, first + count))
  end
  first = first + 1 + count
end
return 1
