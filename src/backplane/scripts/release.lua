-- Releases a name, if it still belongs to the session. ARGV: session, key, name as it is spelled.
local mine = id .. ' ' .. incarnation .. ' ' .. ARGV[3] .. ' ' .. ARGV[5]
if redis.call('HGET', p .. 'names', ARGV[4]) ~= mine then return { 'not-yours' } end
redis.call('HDEL', p .. 'names', ARGV[4])
push('all', 'k', 'left', 'w', ARGV[5])
return { 'ok' }
