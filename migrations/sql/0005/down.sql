-- Takes the monitoring views away.
set local role pandom_trail;
drop view public.failed_logins_last_hour;
drop view public.suspicious_activity;
