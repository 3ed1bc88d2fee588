-- Creates an account, or changes its password. ARGV: key, name, the known version (0: none), hash.
-- If Redis has lost the account, the caller's version applies. If Redis has another version,
-- another request came first, and the script returns the version, hash and name in Redis.
local key, name, before, hash = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local there = redis.call('HGET', p .. 'accounts', key)
if there then
  local version, its_hash, its_name = string.match(there, '^(%S+) (%S+) (%S+)$')
  if version ~= before then return { 'other', version, its_hash, its_name } end
  name = its_name
end
redis.call('HSET', p .. 'accounts', key, (tonumber(before) + 1) .. ' ' .. hash .. ' ' .. name)
return { 'ok' }
