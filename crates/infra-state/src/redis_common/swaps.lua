-- Compare-and-swap of several keys, each by itself: for each key the expected bytes, the new ones,
-- and the expiry (keep, clear, or in ms); then `twice` where a key comes more than once. Answers 0
-- when all were swapped; else with a list: for each 0, 1 when the key does not hold what is
-- expected, or its error. Several are read at once, and written at once where they get no expiry;
-- one after the other where a key comes twice, or where the server refuses that.
local keys, arguments, call = KEYS, ARGV, redis.pcall
local count = #keys
local function put(i, expiry)
  local key, value, done = keys[i], arguments[i * 3 - 1], nil
  if expiry == 'clear' then
    done = call('SET', key, value)
  elseif expiry == 'keep' then
    done = call('SET', key, value, 'KEEPTTL')
  else
    done = call('SET', key, value, 'PX', expiry)
  end
  return done.err and done or 0
end
local held
if count > 1 and arguments[count * 3 + 1] ~= 'twice' then
  held = call('MGET', unpack(keys))
  if held.err then held = nil end
end
local answers, texts, n = {}, {}, 0
for i = 1, count do
  local key, at = keys[i], i * 3
  -- What MGET leaves out may be no text; GET says so.
  local found = held and held[i] or call('GET', key)
  if found ~= arguments[at - 2] then
    answers[i] = type(found) == 'table' and found or 1
  elseif held and arguments[at] == 'clear' then
    n = n + 2
    texts[n - 1] = key
    texts[n] = arguments[at - 1]
  else
    answers[i] = put(i, arguments[at])
  end
end
local refused = n > 0 and call('MSET', unpack(texts)).err
if n == count * 2 and not refused then return 0 end
for i = 1, count do
  answers[i] = answers[i] or (refused and put(i, 'clear') or 0)
end
return answers
