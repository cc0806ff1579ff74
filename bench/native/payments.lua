-- For wrk: one new cash payment a request, from sixteen tills in turn.
-- wrk -t1 -c16 -d5s --latency -s payments.lua http://127.0.0.1:8080 -- RUN
local run, count = 0, 0

function init(args)
  run = tonumber(args[1]) or os.time() % 1000000
  math.randomseed(run)
end

function request()
  count = count + 1
  -- The form of a UUIDv7: run and count make it unique and ordered, as the clocks of tills do.
  local id = string.format("%08x-%04x-7%03x-8%03x-%012x", 0x018f0000 + math.floor(run / 65536), run % 65536,
    count % 4096, math.random(0, 4095), count)
  local headers = {
    ["content-type"] = "application/json",
    ["authorization"] = string.format("Bearer bench-%037d", count % 16),
  }
  local body = string.format('{"amount":{"amount":%d,"currency":"EUR"},"tender":"cash"}', 100 + count % 9000)
  return wrk.format("PUT", "/v1/payments/" .. id, headers, body)
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"per_s": %.2f, "p50_ms": %.4f, "p99_ms": %.4f, "errors": %d}\n',
    summary.requests / (summary.duration / 1e6), latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    e.connect + e.read + e.write + e.status + e.timeout))
end
