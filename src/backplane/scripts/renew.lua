-- Renews the lease, if it still belongs to the incarnation. ARGV: lease in ms, rules, the server's
-- description of itself. Returns the epoch, and for each server: id, '1' if it is alive, its
-- description of itself.
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
