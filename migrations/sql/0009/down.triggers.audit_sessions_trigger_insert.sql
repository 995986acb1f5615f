set local role pandom_owner;

create or replace trigger audit_sessions_trigger_insert
after insert on public.sessions
referencing new table as new_rows
for each statement execute function public.audit_trigger_function();

comment on trigger audit_sessions_trigger_insert on public.sessions is
'Every insert on sessions enters the trail. P4';
