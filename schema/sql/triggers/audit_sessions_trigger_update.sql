-- Made from schema/models.py by `pandom docs`.
-- Every update on sessions enters the trail.
set local role pandom_owner;

create or replace trigger audit_sessions_trigger_update
after update on public.sessions
referencing old table as old_rows new table as new_rows
for each statement execute function public.audit_sessions();

comment on trigger audit_sessions_trigger_update on public.sessions is
'Every update on sessions enters the trail.';
