-- Registers a server that starts or reconnects. ARGV: lease in ms, rules, its description of
-- itself, an epoch to use if none exists.
local lease, rules, info, fresh = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
-- Check the permission for each command now, because a script's error does not name the command.
for command in string.gmatch('DEL EXISTS EXPIRE GET HDEL HGET HGETALL HINCRBY HKEYS HLEN HSET HSETNX HVALS INCR PERSIST PEXPIRE '
    .. 'PTTL SET TIME XADD XINFO XRANGE XREAD XREVRANGE XTRIM', '%S+') do
  local known, allowed = pcall(redis.acl_check_cmd, command, command == 'XINFO' and 'STREAM' or p, p, p)
  if not known or not allowed then return { 'missing', command, known and '1' or '0' } end
end
local held = redis.call('GET', p .. 'srv:' .. id)
if held and held ~= incarnation then
  return { 'held', tostring(redis.call('PTTL', p .. 'srv:' .. id)) }
end
local servers = redis.call('HGETALL', p .. 'servers')
for i = 1, #servers, 2 do
  local its_boot, its_rules = string.match(servers[i + 1], '^(%S+) (%S+)')
  local lives = redis.call('GET', p .. 'srv:' .. servers[i]) == its_boot
  if servers[i] ~= id and lives and its_rules ~= rules then
    return { 'differs', servers[i], its_rules }
  end
end
redis.call('SET', p .. 'srv:' .. id, incarnation, 'PX', lease)
redis.call('HSET', p .. 'servers', id, incarnation .. ' ' .. rules .. ' ' .. info)
redis.call('SET', p .. 'epoch', fresh, 'NX')
-- If the chat or this server had ended, these keys were set to expire.
for _, key in ipairs({ 'all', 'all:born', 'epoch', 'inbox:' .. id, 'inbox:' .. id .. ':born' }) do
  redis.call('PERSIST', p .. key)
end
return { 'ok', redis.call('GET', p .. 'epoch'), place('all'), place('inbox:' .. id) }
