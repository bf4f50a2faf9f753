-- Sends requests in turn, each for another installation.
--
--   KEY     the caller's key
--   IDS     a file of installation ids, one per line
--   BODY    the size of each request's body in bytes; 0 means a GET
--   PAUSE   the average pause of a connection between a response and its next request, in ms

-- Limits the memory of large requests, which are all prepared in advance.
local LARGE_REQUESTS = 16

local requests, sent = {}, 0

function init()
    local body = tonumber(os.getenv("BODY"))
    wrk.headers["Authorization"] = "Bearer " .. os.getenv("KEY")
    wrk.headers["Accept"] = "application/json"
    wrk.headers["Version"] = "2021-07-28"
    if body > 0 then
        wrk.method = "POST"
        wrk.body = string.rep("x", body)
        wrk.headers["Content-Type"] = "application/octet-stream"
    end
    for id in io.lines(os.getenv("IDS")) do
        wrk.headers["X-Installation-Id"] = id
        requests[#requests + 1] = wrk.format()
        if body > 0 and #requests == LARGE_REQUESTS then
            break
        end
    end
end

function request()
    sent = sent + 1
    return requests[(sent - 1) % #requests + 1]
end

-- wrk does not count the pause as latency. Without this function it has no pauses.
local pause = tonumber(os.getenv("PAUSE"))
if pause > 0 then
    function delay()
        return math.random(0, 2 * pause)
    end
end

-- The benchmark parses the last line of the output.
function done(summary, latency)
    local errors = summary.errors
    local broken = errors.connect + errors.read + errors.write + errors.timeout
    print(string.format(
        '{"requests":%d,"seconds":%.6f,"p50_us":%.1f,"p99_us":%.1f,"refused":%d,"broken":%d}',
        summary.requests, summary.duration / 1e6,
        latency:percentile(50), latency:percentile(99), errors.status, broken))
end
