-- Sets a room's topic. ARGV: session, the sender's key and name, the room's key, the topic.
local session, key, spelled, room, topic = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local mine = id .. ' ' .. incarnation .. ' ' .. session .. ' ' .. spelled
local name = p .. 'room:' .. room
if redis.call('HGET', name .. ':members', key) ~= mine then return { 'not-yours' } end
if topic == '' then redis.call('DEL', name .. ':topic')
else redis.call('SET', name .. ':topic', spelled .. ' ' .. topic) end
return { 'ok', 0, push('room:' .. room, 'k', 'topic', 'o', mine, 't', topic) }
