-- Adds a client to a room. ARGV: session, its key and name, the room's key and name.
local session, key, spelled, room, room_spelled = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local mine = id .. ' ' .. incarnation .. ' ' .. session .. ' ' .. spelled
local name = p .. 'room:' .. room
local there = redis.call('HGET', name .. ':members', key)
if there == mine then return { 'ok' } end
redis.call('HSETNX', p .. 'rooms', room, room_spelled)
redis.call('HSET', name .. ':members', key, mine)
-- The previous holder of the name was a member; the takeover ended that membership.
if there then push('room:' .. room, 'k', 'left', 'w', spelled) end
push('room:' .. room, 'k', 'joined', 'o', mine)
redis.call('PERSIST', name)
redis.call('PERSIST', name .. ':born')
-- Messages sent before the room last ended stay hidden for as long as they exist.
redis.call('PERSIST', name .. ':from')
return { 'ok' }
