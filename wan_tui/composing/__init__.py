"""The composer without its screen: what a form holds, how it becomes jobs, and what is known of them beforehand."""
