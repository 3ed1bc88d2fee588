-- Removes the registrations under this server's id that belong to an earlier incarnation, or to
-- sessions that it does not have. ARGV: the sessions.
local there = {}
for i = 3, #ARGV do there[ARGV[i]] = true end
take_out(id, function(its_boot, session) return its_boot == incarnation and there[session] end)
return { 'ok' }
