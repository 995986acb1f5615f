-- Failed sign-ins of the last hour; the index on (event_type, timestamp) serves it.
set local role pandom_trail;

create or replace view public.failed_logins_last_hour
with (security_invoker = true) as
select count(*) as failed_logins
from public.audit_logs
where
    event_type = 'login_failed'
    and timestamp > now() - interval '1 hour';

comment on view public.failed_logins_last_hour is
'Number of failed sign-ins of the last hour.';
