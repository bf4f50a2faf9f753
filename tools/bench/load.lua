-- One request after the other, each for another installation.
--
--   KEY     the caller's key
--   IDS     a file of installation ids, one a line
--   BODY    how many bytes each request sends; 0: it is a GET
--   PAUSE   how many ms a connection waits between an answer and its next request, on average

-- Each of them is a request of its own, held in memory: a few will do.
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

-- wrk counts no pause as latency, and with none it does not even ask for one.
local pause = tonumber(os.getenv("PAUSE"))
if pause > 0 then
    function delay()
        return math.random(0, 2 * pause)
    end
end

-- The last line of the output is for the benchmark.
function done(summary, latency)
    local errors = summary.errors
    local broken = errors.connect + errors.read + errors.write + errors.timeout
    print(string.format(
        '{"requests":%d,"seconds":%.6f,"p50_us":%.1f,"p99_us":%.1f,"refused":%d,"broken":%d}',
        summary.requests, summary.duration / 1e6,
        latency:percentile(50), latency:percentile(99), errors.status, broken))
end
