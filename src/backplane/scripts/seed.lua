-- Adds an account from a server's own file. ARGV: key, name, version, hash. The higher version
-- wins.
local key, name, version, hash = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local there = redis.call('HGET', p .. 'accounts', key)
if there then
  local its_version, its_hash = string.match(there, '^(%S+) (%S+)')
  if tonumber(its_version) == version and its_hash ~= hash then return { 'differs' } end
  if tonumber(its_version) >= version then return { 'ok' } end
end
redis.call('HSET', p .. 'accounts', key, version .. ' ' .. hash .. ' ' .. name)
return { 'ok' }
