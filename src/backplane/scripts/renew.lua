-- The lease goes on, if it is still this incarnation's. ARGV: lease in ms, rules, what it says of itself.
-- Answers with the epoch, and for each server: id, whether it lives, what it says of itself.
redis.call('PEXPIRE', p .. 'srv:' .. id, ARGV[3])
redis.call('HSET', p .. 'servers', id, incarnation .. ' ' .. ARGV[4] .. ' ' .. ARGV[5])
local answer = { 'ok', redis.call('GET', p .. 'epoch') or '' }
local servers = redis.call('HGETALL', p .. 'servers')
for i = 1, #servers, 2 do
  local its_boot, info = string.match(servers[i + 1], '^(%S+) %S+ (.*)$')
  table.insert(answer, servers[i])
  table.insert(answer, redis.call('GET', p .. 'srv:' .. servers[i]) == its_boot and '1' or '0')
  table.insert(answer, info)
end
return answer
