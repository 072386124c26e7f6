-- Reserve: idempotent by request id, conditional update, one reservation record, in one step.
-- KEYS: stock counter, reservation record. ARGV: pieces, supply of every stock key.
-- Answers {code, reserved pieces, availability after it}; codes as in schemas/codes.py.
local known = redis.call('HMGET', KEYS[2], 'code', 'granted', 'available')
if known[1] then
  return {tonumber(known[1]), tonumber(known[2]), tonumber(known[3])}
end
local quantity = tonumber(ARGV[1])
local free = tonumber(ARGV[2]) - tonumber(redis.call('GET', KEYS[1]) or '0')
local code = 60
local granted = 0
if quantity <= free then
  redis.call('INCRBY', KEYS[1], quantity)
  free = free - quantity
  code = 1
  granted = quantity
end
redis.call('HSET', KEYS[2], 'stock', KEYS[1], 'code', code, 'granted', granted, 'available', free)
return {code, granted, free}
