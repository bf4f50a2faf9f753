-- Reads a string and deletes it.
-- KEYS: string
local value = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
return value
