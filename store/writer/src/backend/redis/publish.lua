-- Stores a message about a subject for some endpoints. All keys carry one hash tag.
-- KEYS: events, then for each endpoint its queue, due set and count
-- ARGV: subject, message, whether it is an event ('1'), how long events are kept in ms
local now = now_in_ms()
if ARGV[3] == '1' then
  log(KEYS[1], ARGV[2], now, ARGV[4])
end
enqueue(2, ARGV[1], ARGV[2], now)
return 1
