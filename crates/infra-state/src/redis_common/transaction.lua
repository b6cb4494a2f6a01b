-- Checks what is expected of every key, and only then writes. Five arguments for each key: what is
-- expected, the expected bytes, the action, the value, and the expiry (keep, clear, or in ms).
-- Answers 0, or the place of the first key that is not as expected, from 1.
for i = 1, #KEYS do
  local expect = ARGV[i * 5 - 4]
  if expect == 'present' or expect == 'absent' then
    if (redis.call('EXISTS', KEYS[i]) == 1) ~= (expect == 'present') then
      return i
    end
  elseif expect == 'bytes' then
    local found = redis.pcall('GET', KEYS[i])
    if type(found) == 'table' then
      return found
    end
    if found ~= ARGV[i * 5 - 3] then
      return i
    end
  end
end
for i = 1, #KEYS do
  local action, value, expiry = ARGV[i * 5 - 2], ARGV[i * 5 - 1], ARGV[i * 5]
  local done
  if action == 'delete' then
    done = redis.pcall('DEL', KEYS[i])
  elseif action == 'put' and expiry == 'keep' then
    done = redis.pcall('SET', KEYS[i], value, 'KEEPTTL')
  elseif action == 'put' and expiry == 'clear' then
    done = redis.pcall('SET', KEYS[i], value)
  elseif action == 'put' then
    done = redis.pcall('SET', KEYS[i], value, 'PX', expiry)
  end
  -- Only the first write can be refused (no memory, a replica): nothing was written then.
  if type(done) == 'table' and done.err then
    return done
  end
end
return 0
