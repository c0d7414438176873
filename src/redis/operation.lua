-- One operation on one key of a guest's state: the same semantics as src/guest/state/local.rs, whose tests run on this too.
--
-- KEYS: the values (a hash), the expiries in milliseconds (a sorted set), the bytes held (a number).
-- ARGV: what to do, the key, its value or the summand (eight bytes, little-endian), seconds to live or "", the most keys, the most bytes.
-- Returns { 0 done | 1 it is there already | 2 full | 3 no number, the value or the sum, keys held, bytes held }.
local values, expiries, held = KEYS[1], KEYS[2], KEYS[3]
local verb, key, given, ttl_s = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local most_keys, most_bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
local ENTRY_BYTES, SWEPT_PER_WRITE = 128, 16

-- Redis keeps its own time, so that nodes whose clocks differ agree on what has expired.
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function answer(code, payload)
  return { code, payload or false, redis.call('HLEN', values), tonumber(redis.call('GET', held) or 0) }
end

local function cost(name, value_bytes)
  return #name + value_bytes + ENTRY_BYTES
end

local function live()
  local value = redis.call('HGET', values, key)
  if not value then return false end
  local expires = redis.call('ZSCORE', expiries, key)
  if expires and tonumber(expires) <= now_ms then return false end
  return value, expires
end

local function forget(name)
  local value_bytes = redis.call('HSTRLEN', values, name)
  redis.call('ZREM', expiries, name)
  if redis.call('HDEL', values, name) == 1 then
    redis.call('DECRBY', held, cost(name, value_bytes))
  end
end

-- Removes a few expired keys, the longest expired first; how many it were.
local function sweep()
  local expired = redis.call('ZRANGEBYSCORE', expiries, '-inf', now_ms, 'LIMIT', 0, SWEPT_PER_WRITE)
  for _, name in ipairs(expired) do forget(name) end
  return #expired
end

-- How much more is held with this value, and whether that is within the bounds.
local function growth(value)
  local keys, more = redis.call('HLEN', values) + 1, cost(key, #value)
  if redis.call('HEXISTS', values, key) == 1 then
    keys, more = keys - 1, more - cost(key, redis.call('HSTRLEN', values, key))
  end
  return more, keys <= most_keys and tonumber(redis.call('GET', held) or 0) + more <= most_bytes
end

local function write(value, expires)
  sweep()
  local more, has_room = growth(value)
  while not has_room do
    if sweep() == 0 then return false end
    more, has_room = growth(value)
  end
  -- First what a Redis without memory refuses: once a script has written something, nothing of it is refused any more.
  redis.call('INCRBY', held, more)
  redis.call('HSET', values, key, value)
  if expires then redis.call('ZADD', expiries, expires, key) else redis.call('ZREM', expiries, key) end
  return true
end

local function new_expiry()
  if ttl_s == '' then return false end
  return now_ms + tonumber(ttl_s) * 1000
end

-- Numbers here have 53 bits: 64 are added in two halves.
local function halves(bytes)
  local a, b, c, d, e, f, g, h = string.byte(bytes, 1, 8)
  local high = e + f * 0x100 + g * 0x10000 + h * 0x1000000
  if high >= 0x80000000 then high = high - 0x100000000 end
  return high, a + b * 0x100 + c * 0x10000 + d * 0x1000000
end

local function four(number)
  local byte = function(shift) return math.floor(number / shift) % 0x100 end
  return string.char(byte(1), byte(0x100), byte(0x10000), byte(0x1000000))
end

local function sum(one, other)
  local high, low = halves(one)
  local other_high, other_low = halves(other)
  high, low = high + other_high, low + other_low
  if low >= 0x100000000 then high, low = high + 1, low - 0x100000000 end
  if high >= 0x80000000 then high, low = 0x7FFFFFFF, 0xFFFFFFFF end
  if high < -0x80000000 then high, low = -0x80000000, 0 end
  return four(low) .. four(high % 0x100000000)
end

if verb == 'get' then
  return answer(0, (live()))
elseif verb == 'put' then
  return answer(write(given, new_expiry()) and 0 or 2)
elseif verb == 'put-if-absent' then
  if live() then return answer(1) end
  return answer(write(given, new_expiry()) and 0 or 2)
elseif verb == 'add' then
  local before, expires = live()
  if not before then
    before, expires = string.rep('\0', 8), new_expiry()
  elseif #before ~= 8 then
    return answer(3)
  end
  local after = sum(before, given)
  if not write(after, expires) then return answer(2) end
  return answer(0, after)
else
  forget(key)
  return answer(0)
end
