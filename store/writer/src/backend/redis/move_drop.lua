-- Removes both halves of an installation, unless another revision is there.
-- KEYS: access, refresh   ARGV: revision
local held = redis.call('HGET', KEYS[2], 'rev')
if held and held ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
