-- Reads both halves of an installation at one moment, and the moment.
-- KEYS: access, refresh
return { redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), redis.call('TIME') }
