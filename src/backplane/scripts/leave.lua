-- Removes a client from a room if the membership still belongs to its session. ARGV: session, its
-- key and name, the room's key.
local mine = id .. ' ' .. incarnation .. ' ' .. ARGV[3] .. ' ' .. ARGV[5]
local room = ARGV[6]
if redis.call('HGET', p .. 'room:' .. room .. ':members', ARGV[4]) ~= mine then return { 'not-yours' } end
redis.call('HDEL', p .. 'room:' .. room .. ':members', ARGV[4])
push('room:' .. room, 'k', 'left', 'w', ARGV[5])
end_if_empty(room)
return { 'ok' }
