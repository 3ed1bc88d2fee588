-- Looks up an account. ARGV: key. Returns version, hash and name.
local there = redis.call('HGET', p .. 'accounts', ARGV[3])
if not there then return { 'none' } end
local version, hash, name = string.match(there, '^(%S+) (%S+) (%S+)$')
return { 'ok', version, hash, name }
