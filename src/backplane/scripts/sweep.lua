-- What is noted under this server's id of an earlier incarnation, or of sessions that it does not have. ARGV: the sessions.
local there = {}
for i = 3, #ARGV do there[ARGV[i]] = true end
take_out(id, function(its_boot, session) return its_boot == incarnation and there[session] end)
return { 'ok' }
