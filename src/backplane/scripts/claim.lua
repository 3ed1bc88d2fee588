-- Claims a name. ARGV: session, key, name as it is spelled, '1' to take it over.
local session, key, spelled, take_over = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local mine = id .. ' ' .. incarnation .. ' ' .. session .. ' ' .. spelled
local holder = redis.call('HGET', p .. 'names', key)
if holder == mine then return { 'entered' } end
if not holder then
  redis.call('HSET', p .. 'names', key, mine)
  push('all', 'k', 'joined', 'o', mine)
  return { 'entered' }
end
if alive(holder) then
  if take_over ~= '1' then return { 'in-use' } end
  local server, _, their_session = string.match(holder, '^(%S+) (%S+) (%S+)')
  push('inbox:' .. server, 'k', 'taken', 's', their_session)
end
-- A takeover is not announced, because the name stays online.
redis.call('HSET', p .. 'names', key, mine)
return { 'took' }
