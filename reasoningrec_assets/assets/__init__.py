"""The assets, one module per stage, in the order data flows: sources, interactions, language, student, evaluation.

What belongs here: glue of about 25 lines each. What doesn't: any work; each asset calls one function of a domain
package, inside its body, so that loading the definitions stays as light as Dagster itself.
"""
