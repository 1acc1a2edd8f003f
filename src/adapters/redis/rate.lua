-- Counts events of tenants by the second, and tells for each ask what it may do.
--
-- KEYS  one a tenant
-- ARGV  1 events within the rate   2 events at most, 0 for no bound   3 seconds kept   4 TTL ms
--       then for each ask: the number of its key, events
-- Gives for each ask 0 (within the rate), -1 (above it), or, refused, the ms after which it fits.
-- A key is a text of "second:events". Refused asks are not counted.

local rate, most, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now, ms = tonumber(time[1]), math.floor(tonumber(time[2]) / 1000)
local tenants = {}

-- What a tenant has sent, by age in seconds. A server whose clock was set back finds counts from
-- the future: they are as young as can be.
local function read(n)
  local tenant = { total = 0, changed = false }
  for second, events in string.gmatch(redis.call('GET', KEYS[n]) or '', '(%d+):(%d+)') do
    local age = math.max(now - tonumber(second), 0)
    if age < kept then
      tenant[age] = (tenant[age] or 0) + tonumber(events)
      tenant.total = tenant.total + tonumber(events)
    end
  end
  tenants[n] = tenant
  return tenant
end

-- How long until so many events, or all, have left.
local function wait(tenant, events)
  local left = 0
  for age = kept - 1, 1, -1 do
    left = left + (tenant[age] or 0)
    if left >= events then return (kept - age) * 1000 - ms end
  end
  return kept * 1000 - ms
end

local paces = {}
for i = 5, #ARGV, 2 do
  local n, events = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local tenant = tenants[n] or read(n)
  local total = tenant.total + events
  if most > 0 and total > most and tenant.total > 0 then
    paces[#paces + 1] = wait(tenant, total - most)
  else
    tenant[0], tenant.total, tenant.changed = (tenant[0] or 0) + events, total, true
    paces[#paces + 1] = total > rate and -1 or 0
  end
end

for n, tenant in pairs(tenants) do
  if tenant.changed then
    local counts = {}
    for age = 0, kept - 1 do
      if tenant[age] then counts[#counts + 1] = string.format('%.0f:%.0f', now - age, tenant[age]) end
    end
    redis.call('SET', KEYS[n], table.concat(counts, ' '), 'PX', ARGV[4])
  end
end
return paces
