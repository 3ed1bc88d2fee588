-- Sends a direct message. ARGV: session, the sender's key and name, the receipt's number, the
-- recipient's key, text, '1' if it is an action.
local session, key, spelled, ask, to, text, me = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local mine = id .. ' ' .. incarnation .. ' ' .. session .. ' ' .. spelled
if redis.call('HGET', p .. 'names', key) ~= mine then return { 'not-yours' } end
local holder = redis.call('HGET', p .. 'names', to)
if not holder or not alive(holder) then return { 'nobody' } end
local server, _, their_session = string.match(holder, '^(%S+) (%S+) (%S+)')
push('inbox:' .. server, 'k', 'direct', 's', their_session, 'a', ask, 'r', id, 'w', spelled, 't', text, 'm', me, 'i', (next_message()))
return { 'passed-on' }
