-- Records events of one subject and gives what is needed to count for each of them.
--
-- KEYS  1 events by time (score: ms)   2 events by id (all scores 0)   3 figures, a text
-- ARGV  1 window ms   2 slack ms   3 most events kept   4 TTL ms
--       then for each event: id (32 hex digits), accept time ms, time ms, amount
-- A member of both sets is "id:amount:time". The figures, with "-" for none: the newest time;
-- count of the events in (newest - window, newest]; high and low part of their amounts' sum; how
-- many are kept; bounds of their times; a bound of their ids; the newest time of one that was not
-- kept; when the TTL was last set. Each call to the server costs microseconds, so the bounds are
-- there to leave calls out. Sums pass 2^53, where Lua's numbers lose digits: high * 10^9 + low.

local window, slack, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local function text(number) return string.format('%.0f', number) end

local stored = redis.call('GET', KEYS[3]) or ''
local newest, total, high, low, known, oldest, farthest, highest, dropped, refreshed =
  string.match(stored, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
local size = redis.call('ZCARD', KEYS[1])
if size ~= redis.call('ZCARD', KEYS[2]) or size ~= tonumber(known or '0') then
  -- The server dropped some of the keys for want of memory: what is left does not add up.
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
  newest, total, high, low, oldest, farthest, highest, dropped, refreshed = nil
  size = 0
end
newest, oldest, farthest = tonumber(newest or ''), tonumber(oldest or ''), tonumber(farthest or '')
total, high, low = tonumber(total or '0'), tonumber(high or '0'), tonumber(low or '0')
highest, dropped, refreshed = highest or '-', tonumber(dropped or ''), tonumber(refreshed or '')
local lost, fresh = false, size == 0

-- Adds an amount to the totals, or takes it off.
local function count(amount, sign)
  local rest = math.fmod(amount, 1e9)
  total, high, low = total + sign, high + sign * (amount - rest) / 1e9, low + sign * rest
end

local function count_all(members, sign)
  for _, member in ipairs(members) do count(tonumber(string.match(member, ':(-?%d+):')), sign) end
end

-- Members with a time in (after, to].
local function span(after, to)
  if after >= to or size == 0 or oldest > to or farthest <= after then return {} end
  return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. text(after), text(to))
end

local function inside(time) return time > newest - window and time <= newest end

local function lose(time)
  lost = true
  if not dropped or time > dropped then dropped = time end
end

local function drop(members)
  for _, member in ipairs(members) do
    local amount, time = string.match(member, ':(-?%d+):(-?%d+)$')
    redis.call('ZREM', KEYS[1], member)
    redis.call('ZREM', KEYS[2], member)
    time = tonumber(time)
    if inside(time) then count(tonumber(amount), -1) end
    lose(time)
    -- They come oldest first.
    oldest = time
  end
  size = size - #members
  fresh = fresh or size == 0
end

-- 1. The newest time, and the totals moved on to it. An event that claims to be from the future
-- counts as new as its acceptance: one absurd time must not age all others.
local latest, accepted
for i = 5, #ARGV, 4 do
  local accept = tonumber(ARGV[i + 1])
  local time = math.min(accept, tonumber(ARGV[i + 2]))
  if not latest or time > latest then latest = time end
  if not accepted or accept > accepted then accepted = accept end
end
if not newest then
  newest = latest
elseif latest > newest then
  count_all(span(newest - window, math.min(newest, latest - window)), -1)
  count_all(span(math.max(newest, latest - window), latest), 1)
  newest = latest
  local floor = newest - window - slack
  if size > 0 and oldest <= floor then drop(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(floor))) end
end

-- 2. Record.
local members, first, last, lowest = {}, nil, nil, nil
for i = 5, #ARGV, 4 do
  local id, time = ARGV[i], tonumber(ARGV[i + 2])
  local member = id .. ':' .. ARGV[i + 3] .. ':' .. ARGV[i + 2]
  members[#members + 1] = member
  if not first or time < first then first = time end
  if not last or time > last then last = time end
  if not lowest or id < lowest then lowest = id end
  if time <= newest - window - slack then
    lose(time)
  elseif redis.call('ZADD', KEYS[1], 'NX', ARGV[i + 2], member) == 1 then
    redis.call('ZADD', KEYS[2], 0, member)
    if size == 0 then oldest, farthest, highest = time, time, id end
    oldest, farthest = math.min(oldest, time), math.max(farthest, time)
    if id > highest then highest = id end
    size = size + 1
    if inside(time) then count(tonumber(ARGV[i + 3]), 1) end
  end
end
if size > most then drop(redis.call('ZRANGE', KEYS[1], 0, size - most - 1)) end

fresh = fresh or not refreshed or math.abs(accepted - refreshed) > 600000
if fresh then
  refreshed = accepted
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
local figures = string.format('%.0f %.0f %.0f %.0f %.0f %s %s %s %s %.0f', newest, total, high, low, size,
  oldest and text(oldest) or '-', farthest and text(farthest) or '-', highest, dropped and text(dropped) or '-', refreshed)
redis.call('SET', KEYS[3], figures, 'PX', ARGV[4])

-- 3. Read: the totals, and every event by which the window of any event of the batch differs.
local kept, later = {}, {}
if lost then
  for i, member in ipairs(members) do kept[i] = redis.call('ZSCORE', KEYS[1], member) and 1 or 0 end
end
if lowest < highest then later = redis.call('ZRANGEBYLEX', KEYS[2], '(' .. lowest .. ';', '+') end
return {
  figures,
  kept,
  span(math.min(newest, first) - window, math.max(newest, last) - window),
  span(math.min(newest, first), math.max(newest, last)),
  later,
}
