-- Somebody is in a room. ARGV: session, their key and name, the room's key and name.
local session, key, spelled, room, room_spelled = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local mine = id .. ' ' .. incarnation .. ' ' .. session .. ' ' .. spelled
local name = p .. 'room:' .. room
local there = redis.call('HGET', name .. ':members', key)
if there == mine then return { 'ok' } end
redis.call('HSETNX', p .. 'rooms', room, room_spelled)
redis.call('HSET', name .. ':members', key, mine)
-- Whoever had the name before was in it, and is not any more.
if there then push('room:' .. room, 'k', 'left', 'w', spelled) end
push('room:' .. room, 'k', 'joined', 'o', mine)
redis.call('PERSIST', name)
redis.call('PERSIST', name .. ':born')
return { 'ok' }
