"""The baseline: a Flask application that serves the SavedModel as JSON, as in tutorials.

python -m benchmarks.article.flask_app VERSION PORT
"""

import sys
from typing import Any

import flask
import numpy as np

from seaway.tensorflow_import import import_tensorflow


def main() -> None:
    tf = import_tensorflow()
    model = tf.saved_model.load(sys.argv[1])
    predict = model.signatures["serving_default"]
    app = flask.Flask(__name__)

    @app.get("/")
    def ready() -> str:
        return "ready"

    @app.post("/v1/models/characters:predict")
    def predict_view() -> Any:
        image = np.array(flask.request.get_json()["instances"], np.float32)
        return flask.jsonify(predictions=predict(image=tf.constant(image))["scores"].numpy().tolist())

    app.run("127.0.0.1", int(sys.argv[2]), threaded=True)


if __name__ == "__main__":
    main()
