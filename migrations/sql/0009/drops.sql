-- What schema/sql has no more.
set local role pandom_trail;
-- Its triggers call others now, and nobody else could.
-- squawk-ignore ban-drop-function
drop function public.audit_trigger_function();
