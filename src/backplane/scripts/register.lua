-- An account begins, or gets another password. ARGV: key, name, the version that it has had (0: none), hash.
-- (If the engine has forgotten it, the asker knows better.) If it is not as the asker thought, somebody else was first: answers with version, hash and name.
local key, name, before, hash = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local there = redis.call('HGET', p .. 'accounts', key)
if there then
  local version, its_hash, its_name = string.match(there, '^(%S+) (%S+) (%S+)$')
  if version ~= before then return { 'other', version, its_hash, its_name } end
  name = its_name
end
redis.call('HSET', p .. 'accounts', key, (tonumber(before) + 1) .. ' ' .. hash .. ' ' .. name)
return { 'ok' }
