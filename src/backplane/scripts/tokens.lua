-- Session tokens: for each name, a Redis hash that maps the hash of each token to its expiry time.
-- ARGV: the action, the name's key, the token's hash (empty: all), the expiry time in seconds since
-- 1970, the maximum number of tokens for a name. Returns a number.
local what, key, hash, ends, most = ARGV[3], p .. 'tokens:' .. ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local now = tonumber(redis.call('TIME')[1])
if what == 'has' then
  return { 'ok', (tonumber(redis.call('HGET', key, hash) or '0') > now) and '1' or '0' }
end
if what == 'remove' then
  if hash == '' then
    local count = redis.call('HLEN', key)
    redis.call('DEL', key)
    return { 'ok', tostring(count) }
  end
  return { 'ok', tostring(redis.call('HDEL', key, hash)) }
end
redis.call('HSET', key, hash, ends)
local all, there = {}, redis.call('HGETALL', key)
for i = 1, #there, 2 do table.insert(all, { there[i], tonumber(there[i + 1]) }) end
table.sort(all, function(a, b) return a[2] > b[2] end)
for i, token in ipairs(all) do
  if token[1] ~= hash and (i > tonumber(most) or token[2] <= now) then redis.call('HDEL', key, token[1]) end
end
redis.call('EXPIREAT', key, ends)
return { 'ok', '1' }
