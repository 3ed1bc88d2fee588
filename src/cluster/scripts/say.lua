-- Something said to all, or in a room. ARGV: session, the speaker's key and name, the room's key ('' for all), text, '1' if an action.
local session, key, spelled, room, text, me = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local mine = id .. ' ' .. boot .. ' ' .. session .. ' ' .. spelled
local stream, among = 'all', p .. 'names'
if room ~= '' then stream, among = 'room:' .. room, p .. 'room:' .. room .. ':members' end
if redis.call('HGET', among, key) ~= mine then return { 'not-yours' } end
local n = push(stream, 'k', 'said', 'o', mine, 'w', spelled, 't', text, 'm', me)
return { 'ok', tostring(redis.call('HLEN', among) - 1), tostring(n) }
