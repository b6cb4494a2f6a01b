-- Compare-and-swap of one key: the expected bytes, the new ones, and the expiry (keep, clear, or in
-- ms). Answers 0, or 1 when the key does not hold what is expected.
local found = redis.pcall('GET', KEYS[1])
if found ~= ARGV[1] then
  return type(found) == 'table' and found or 1
end
local done
if ARGV[3] == 'clear' then
  done = redis.pcall('SET', KEYS[1], ARGV[2])
elseif ARGV[3] == 'keep' then
  done = redis.pcall('SET', KEYS[1], ARGV[2], 'KEEPTTL')
else
  done = redis.pcall('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return done.err and done or 0
