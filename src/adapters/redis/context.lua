-- Records events of one subject and gives what is needed to count for each of them.
--
-- KEYS  1 events by time (score: ms)   2 events by id (all scores 0)   3 figures
-- ARGV  1 window ms   2 slack ms   3 most events kept   4 TTL ms
--       then for each event: id (32 hex digits), accept time ms, time ms, amount
-- A member of both sets is "id:amount:time". The figures: c and s, count and sum of the events in
-- (n - window, n]; n, the newest time; f, the newest time of an event that was not kept.
-- Sums beyond 2^53 never pass through a Lua number.

local window, slack = tonumber(ARGV[1]), tonumber(ARGV[2])
local function text(number) return string.format('%.0f', number) end

local stored = redis.call('HMGET', KEYS[3], 'n', 'f', 'c')
local newest, dropped = tonumber(stored[1] or nil), tonumber(stored[2] or nil)
local by_time, by_id = redis.call('EXISTS', KEYS[1]), redis.call('EXISTS', KEYS[2])
if by_time ~= by_id or (by_time == 1 and not newest) or (by_time == 0 and tonumber(stored[3] or '0') ~= 0) then
  -- The server dropped some of the keys for want of memory: what is left does not add up.
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
  newest, dropped = nil, nil
end

-- Adds the members of a list to the totals, or takes them off.
local function count(members, sign)
  if #members == 0 then return end
  redis.call('HINCRBY', KEYS[3], 'c', sign * #members)
  local sum = 0
  for _, member in ipairs(members) do
    sum = sum + tonumber(string.match(member, ':(-?%d+):'))
    if sum > 8e15 or sum < -8e15 then
      redis.call('HINCRBY', KEYS[3], 's', text(sign * sum))
      sum = 0
    end
  end
  -- Redis does not read "-0".
  if sum ~= 0 then redis.call('HINCRBY', KEYS[3], 's', text(sign * sum)) end
end

-- Members with a time in (after, to].
local function span(after, to)
  if after >= to then return {} end
  return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. text(after), text(to))
end

local function inside(time) return time > newest - window and time <= newest end

local function drop(members)
  for _, member in ipairs(members) do
    local time = tonumber(string.match(member, ':(-?%d+)$'))
    redis.call('ZREM', KEYS[1], member)
    redis.call('ZREM', KEYS[2], member)
    if inside(time) then count({ member }, -1) end
    if not dropped or time > dropped then dropped = time end
  end
end

-- 1. The newest time, and the totals moved on to it. An event that claims to be from the future
-- counts as new as its acceptance: one absurd time must not age all others.
local latest
for i = 5, #ARGV, 4 do
  local time = math.min(tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]))
  if not latest or time > latest then latest = time end
end
if not newest then
  newest = latest
elseif latest > newest then
  count(span(newest - window, math.min(newest, latest - window)), -1)
  count(span(math.max(newest, latest - window), latest), 1)
  newest = latest
  drop(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(newest - window - slack)))
end

-- 2. Record.
local members = {}
for i = 5, #ARGV, 4 do
  local time = tonumber(ARGV[i + 2])
  local member = ARGV[i] .. ':' .. ARGV[i + 3] .. ':' .. ARGV[i + 2]
  members[#members + 1] = member
  if time <= newest - window - slack then
    if not dropped or time > dropped then dropped = time end
  elseif redis.call('ZADD', KEYS[1], 'NX', ARGV[i + 2], member) == 1 then
    redis.call('ZADD', KEYS[2], 0, member)
    if inside(time) then count({ member }, 1) end
  end
end
local excess = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[3])
if excess > 0 then drop(redis.call('ZRANGE', KEYS[1], 0, excess - 1)) end

redis.call('HSET', KEYS[3], 'n', text(newest))
if dropped then redis.call('HSET', KEYS[3], 'f', text(dropped)) end
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ARGV[4]) end

-- 3. Read: the totals, and every event by which the window of any event of the batch differs.
local first, last, lowest
for i = 5, #ARGV, 4 do
  local time = tonumber(ARGV[i + 2])
  if not first or time < first then first = time end
  if not last or time > last then last = time end
  if not lowest or ARGV[i] < lowest then lowest = ARGV[i] end
end
local kept = {}
for i, member in ipairs(members) do kept[i] = redis.call('ZSCORE', KEYS[1], member) and 1 or 0 end
local totals = redis.call('HMGET', KEYS[3], 'c', 's')
return {
  totals[1] or '0',
  totals[2] or '0',
  text(newest),
  dropped and text(dropped) or '',
  kept,
  span(math.min(newest, first) - window, math.max(newest, last) - window),
  span(math.min(newest, first), math.max(newest, last)),
  redis.call('ZRANGEBYLEX', KEYS[2], '(' .. lowest .. ';', '+'),
}
